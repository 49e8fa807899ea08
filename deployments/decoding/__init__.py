"""Decoding and encoding of pictures that clients send or ask for, in processes with limits on time and memory."""
