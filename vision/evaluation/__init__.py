"""How right the watching is: what the pipeline finds in footage against what is known to happen in it."""
