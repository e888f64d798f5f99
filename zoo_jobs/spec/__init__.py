"""Zoo specs: typed values of YAML files, the rows of their grids, and the ids that follow from them.

Public: `zoo.ZooSpec`, `twins.TwinSpec`, `twins.twins_of`, `grid.rows`, `yaml_values.yaml_values`.
"""
