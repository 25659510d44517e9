"""The documentation's web site: `make docs` builds it with MkDocs.

`reference` writes the reference pages from the code itself, `hooks` hands them to MkDocs. Nothing
of this is needed at run time, and no generated page is kept in the repository.
"""
