"""A store as static pages: a report of each zoo with a contact sheet and how to load it, and an index of the zoos."""
