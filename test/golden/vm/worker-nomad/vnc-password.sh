#!/bin/sh
# Draws the desktop's password once. VNC knows eight characters: the socket's mode is the real lock.
set -eu
umask 077
[ -s /etc/autocode/vnc-password ] && exit 0
password=$(od -An -N 8 -t x1 /dev/urandom | tr -d ' \n' | cut -c 1-8)
printf '%s\n' "$password" >/etc/autocode/vnc-password.txt
printf '%s\n' "$password" | tigervncpasswd -f >/etc/autocode/vnc-password
