"""Superset's settings: its key and its own database. Read by the image from PYTHONPATH."""

from pathlib import Path

SECRET_KEY = Path("/run/secrets/SUPERSET_SECRET_KEY").read_text(encoding="utf-8").strip()
SQLALCHEMY_DATABASE_URI = "sqlite:////app/superset_home/superset.db"
WTF_CSRF_ENABLED = True
TALISMAN_ENABLED = True
