# shellcheck shell=sh
# Customize the tree of a base into Google's public Debian image: Google's guest agent.
# What differs from the real one: the agent is Debian's package, of 2021; Google's kernel parameters are missing.
printf '169.254.169.254 metadata.google.internal metadata\n' >>/etc/hosts
# Its startup scripts run after network-online.target, which nothing else here is sure to start.
mkdir --parents /etc/systemd/system/google-startup-scripts.service.d
printf '%s\n' '[Unit]' 'Wants=network-online.target' >/etc/systemd/system/google-startup-scripts.service.d/network.conf
