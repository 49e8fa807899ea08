"""The facts that the checks judge: of this machine, and of the hub. Whatever reads them is here; nothing is written."""
