"""The sections of the report, one file each, named like its anchor in the page. Each has a function `section`.

It takes the `Contents` and returns a `Section`, or None if the zoo has nothing for it. `page.SECTIONS` is their order.
"""
