"""The dataset forms, one file each; a new file that registers a form is all it takes."""
