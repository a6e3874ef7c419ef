"""Requests and answers independent of the protocol: codecs, tensors, signatures."""
