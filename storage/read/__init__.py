"""Reading a published zoo.

``ZooReader`` selects states (``select``), reads their shards (``shard_reader``) and joins their labels.
"""
