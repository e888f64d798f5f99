"""Publishes zoos to a folder, a bucket, the Hugging Face Hub or Zenodo, with card, citation and metadata.

``parcel.parcel_of`` says what is published, ``plan.plan_of`` how much that is, and ``to_store``, ``hub`` and ``zenodo``
upload it and read it back.
"""
