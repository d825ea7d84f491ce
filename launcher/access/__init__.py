"""How a user reaches a machine: keys, ssh, tunnels, the notebook, passwords, copies."""
