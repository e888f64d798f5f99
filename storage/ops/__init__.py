"""Upkeep of a store: listing.list_store, verify.verify_zoo, pull.pull and gc.collect."""
