"""HTTP alone, for WSGI workers."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "asynccoder.settings")
application = get_wsgi_application()
