"""Published zoos go out: to a folder, a bucket, the Hugging Face Hub, Zenodo, with the papers to find and cite them.

``parcel.parcel_of`` says what is published, ``plan.plan_of`` how much that is, and ``to_store``, ``hub`` and ``zenodo``
bring it there and read it back.
"""
