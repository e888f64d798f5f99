"""Published states in other forms.

Torch data sets (``StateDataset``, ``StateStream``) and modules (``build_module``), tokens (``tokenize``), graphs
(``to_graph``) and standardised weights (``Standardizer``).
"""
