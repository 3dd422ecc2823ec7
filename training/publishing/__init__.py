"""What goes to the Hub: a model or a dataset, checked first, in one commit."""
