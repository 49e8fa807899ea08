"""The edge: the ingress, the dispatcher, the HTTP dialects, the page and the command line."""
