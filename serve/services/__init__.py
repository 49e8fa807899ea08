"""The parts of an ingress replica that routes work with."""
