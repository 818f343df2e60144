"""What is the layer?  Its configuration as plain values, and the same with its weights."""
