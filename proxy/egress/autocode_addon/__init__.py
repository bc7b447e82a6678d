"""Our part of mitmproxy, which addon.py gives to mitmdump."""
