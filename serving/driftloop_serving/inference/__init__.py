"""What is asked and answered, whatever the protocol: codecs, tensors, signatures."""
