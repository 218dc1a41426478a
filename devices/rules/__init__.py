"""Types of alarm rule that are made of data: one file, one TYPE."""
