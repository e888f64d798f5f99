"""The image data sets: their registry, how their files get here and are read, preprocessing and splits.

Public: `registry.DATASETS` (one entry of datasets.yaml per data set), `readers.READERS`, `sources.fetch`,
`prepare.load`, `mirror.mirror`.
"""
