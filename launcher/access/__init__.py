"""Access to a machine: keys, ssh, tunnels, the notebook, passwords, copies."""
