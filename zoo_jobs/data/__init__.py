"""The image data sets: their registry, fetching and reading their files, preprocessing and splits.

Public: `registry.DATASETS` (one entry of datasets.yaml per data set), `readers.READERS`, `sources.fetch`,
`prepare.load`, `mirror.mirror`.
"""
