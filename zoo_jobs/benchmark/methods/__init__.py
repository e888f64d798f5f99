"""Methods that predict properties of models, one file each; ``registry.METHODS`` lists them."""
