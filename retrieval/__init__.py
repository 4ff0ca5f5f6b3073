"""Documents in, hits out: the collection and everything it is made of."""
