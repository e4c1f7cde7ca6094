"""Every setting, read from the environment (and ``.env``); ``.env.example`` explains each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import django_stubs_ext
import environ

from asynccoder import redis_server
from asynccoder.lib import cors, logs, openapi, rest, secret_files, storage

# Lets classes of Django carry type parameters at run time, as they do for the type checker.
django_stubs_ext.monkeypatch()

env = environ.Env()
BASE_DIR = Path(__file__).resolve().parent.parent
environ.Env.read_env(env.str("ENV_FILE", default=str(BASE_DIR / ".env")))

VAR_DIR = (BASE_DIR / env.str("VAR_DIR", default="var")).resolve()


def own_secret(name: str, *, length: int = 48) -> str:
    """Return the secret from the environment, or one made once and kept in VAR_DIR (0600)."""
    path = VAR_DIR / "secrets" / name.lower()
    return env.str(name, default="") or secret_files.kept(path, length=length)


# --- Core ---------------------------------------------------------------------------------------
VERSION = "0.1.0"
ENVIRONMENT = env.str("ENVIRONMENT", default="development")
DEBUG = env.bool("DEBUG", default=False)
PORT = env.int("PORT", default=8000)
PUBLIC_URL = env.str("PUBLIC_URL", default=f"http://localhost:{PORT}").rstrip("/")
IS_HTTPS = PUBLIC_URL.startswith("https://")
SECRET_KEY = own_secret("SECRET_KEY")
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]
ROOT_URLCONF = "asynccoder.urls"
ASGI_APPLICATION = "asynccoder.asgi.application"
WSGI_APPLICATION = "asynccoder.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
APPEND_SLASH = False
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False

INSTALLED_APPS = [
    "accounts",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    "corsheaders",
    "rest_framework",
    "drf_spectacular_sidecar",
    "django_htmx",
    "asynccoder",
    "repositories",
    "aimodels",
    "billing",
    "tasks",
]

MIDDLEWARE = [
    "asynccoder.middleware.Connection",
    "asynccoder.middleware.RequestId",
    "asynccoder.middleware.RequestLog",
    "asynccoder.middleware.SecurityHeaders",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "corsheaders.middleware.CorsMiddleware",
    "asynccoder.middleware.ApiRequest",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "tasks.tray.top_bar",
            ]
        },
    }
]

# --- Database: SQLite in VAR_DIR unless DATABASE_URL names another -----------------------------
DATABASES: dict[str, dict[str, Any]] = {
    "default": env.db_url("DATABASE_URL", default=f"sqlite:///{VAR_DIR / 'db.sqlite3'}")
}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["ENGINE"] = "asynccoder.sqlite3"
    # reliability.md F12: deferred transactions lose concurrent writes; these lose none.
    DATABASES["default"]["OPTIONS"] = {
        "timeout": 20,
        "transaction_mode": "IMMEDIATE",
        "init_command": (
            "PRAGMA journal_mode=WAL;PRAGMA synchronous=NORMAL;PRAGMA journal_size_limit=27103364;"
        ),
    }
else:
    DATABASES["default"]["CONN_MAX_AGE"] = env.int("CONN_MAX_AGE", default=60)
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True

# --- Redis: cache, broker and live notices; the launcher starts an embedded one ----------------
REDIS_URL = env.str("REDIS_URL", default="") or redis_server.url(VAR_DIR)
# Before the name of everything we keep in Redis, so that several deployments can share one.
REDIS_PREFIX = env.str("REDIS_PREFIX", default="asynccoder")
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": REDIS_URL,
        "KEY_PREFIX": REDIS_PREFIX,
        # A server that hangs must not hold a request: limits are let through without it.
        "OPTIONS": {"socket_timeout": 2, "socket_connect_timeout": 2},
    }
}
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": [REDIS_URL], "prefix": REDIS_PREFIX},
    }
}

# Pages and REST on a WSGI server (asynccoder/wsgi_server.py); the embedded one has threads of its own.
WEB_PROCESSES = env.int("WEB_PROCESSES", default=1)
WEB_THREADS = env.int("WEB_THREADS", default=8)
# How many sockets a user may have open in one web process, and how many may not be signed in yet.
SOCKETS_PER_USER = env.int("SOCKETS_PER_USER", default=20)
SOCKETS_UNKNOWN = env.int("SOCKETS_UNKNOWN", default=500)
# The same for streams of events and requests that wait for a result.
STREAMS_PER_USER = env.int("STREAMS_PER_USER", default=20)
# Requests of one process that may wait for a result (?wait=), each in a thread.
WAITS_PER_PROCESS = env.int("WAITS_PER_PROCESS", default=16)
STREAM_BEAT_SECONDS = env.float("STREAM_BEAT_SECONDS", default=15)
STALL_SECONDS = env.float("STALL_SECONDS", default=30)

# --- Identity -----------------------------------------------------------------------------------
AUTH_USER_MODEL = "accounts.User"
LOGIN_URL = "accounts:sign-in"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "/sign-in/"
SESSION_ENGINE = "accounts.session_store"
SESSION_COOKIE_NAME = "async_coder_session"
SESSION_COOKIE_SECURE = IS_HTTPS
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SECURE = IS_HTTPS
AUTHENTICATION_BACKENDS = ["accounts.authentication.EmailOrUsername"]
JWT_SECRET = own_secret("JWT_SECRET")
JWT_ACCESS_SECONDS = env.int("JWT_ACCESS_SECONDS", default=3600)
JWT_REFRESH_SECONDS = env.int("JWT_REFRESH_SECONDS", default=30 * 24 * 3600)
SIMPLE_JWT = {
    "ALGORITHM": "HS256",
    "SIGNING_KEY": JWT_SECRET,
    "ISSUER": "async-coder",
    "AUDIENCE": "async-coder",
}
# Clerk's session tokens; without an issuer there are none.
CLERK_ISSUER = env.str("CLERK_ISSUER", default="").rstrip("/")
CLERK_JWKS_URL = env.str("CLERK_JWKS_URL", default="")
CLERK_AUDIENCE = env.str("CLERK_AUDIENCE", default="")
CLERK_AUTHORIZED_PARTIES = env.list("CLERK_AUTHORIZED_PARTIES", default=[PUBLIC_URL])
CLERK_SECRET_KEY = env.str("CLERK_SECRET_KEY", default="")
CLERK_API_URL = env.str("CLERK_API_URL", default="https://api.clerk.com/v1").rstrip("/")
FIELD_ENCRYPTION_KEYS = env.list("FIELD_ENCRYPTION_KEYS", default=[]) or [
    f"own:{own_secret('FIELD_ENCRYPTION_KEY', length=32)}"
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 8},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]

# --- Security of the pages ----------------------------------------------------------------------
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_HSTS_SECONDS = 31_536_000 if IS_HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = IS_HTTPS
SECURE_HSTS_PRELOAD = IS_HTTPS
# Only a proxy that says which requests came over TLS lets us send the others there.
BEHIND_TLS_PROXY = env.bool("BEHIND_TLS_PROXY", default=False)
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if BEHIND_TLS_PROXY else None
SECURE_SSL_REDIRECT = IS_HTTPS and BEHIND_TLS_PROXY
SECURE_REDIRECT_EXEMPT = [r"^health/?$", r"^ready/?$", r"^metrics/?$", r"^api/health(/|$)"]
X_FRAME_OPTIONS = "DENY"

# --- Static files -------------------------------------------------------------------------------
STATIC_URL = "/static/"
STATIC_ROOT = VAR_DIR / "static"
# Files are served from where they are (WHITENOISE_USE_FINDERS); WhiteNoise warns of a missing folder.
STATIC_ROOT.mkdir(parents=True, exist_ok=True)
STATICFILES_DIRS = [BASE_DIR / "asynccoder" / "static"]
RUNS_FOLDER = storage.folder_of(env.str("RUNS_STORAGE", default=""), VAR_DIR / "runs")
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    # The checkpoints of runs, for every machine: only the Storage API is used (save, open, delete,
    # listdir), so that another backend is a matter of settings.
    "runs": storage.in_folder(RUNS_FOLDER),
}
WHITENOISE_USE_FINDERS = True
MEDIA_ROOT = VAR_DIR / "files"

# --- REST ---------------------------------------------------------------------------------------
REST_FRAMEWORK = rest.SETTINGS
SPECTACULAR_SETTINGS = openapi.SETTINGS | {"VERSION": VERSION}
REQUEST_MAX_BYTES = env.int("REQUEST_MAX_BYTES", default=10 * 1024**2)
DATA_UPLOAD_MAX_MEMORY_SIZE = REQUEST_MAX_BYTES

# --- Rate limits (contract, section 5) ----------------------------------------------------------
RATELIMIT_ENABLE = env.bool("RATELIMIT_ENABLE", default=True)
# Proxies of ours in front of the server; the address that the outermost one wrote is the client's.
NUM_PROXIES = env.int("NUM_PROXIES", default=0)
RATE_LIMITS: dict[str, Any] = {
    # Per address and account together; the other two hold for an address or an account alone.
    "authentication": env.str("RATE_AUTHENTICATION", default="5/15m"),
    "authentication_address": env.str("RATE_AUTHENTICATION_ADDRESS", default="50/15m"),
    "authentication_account": env.str("RATE_AUTHENTICATION_ACCOUNT", default="50/15m"),
    "general": env.str("RATE_GENERAL", default="100/15m"),
    "anonymous": env.str("RATE_ANONYMOUS", default="10/15m"),
    # Where set, instead of the requests per hour of the plan's row.
    "plans": {
        "free": env.str("RATE_PLAN_FREE", default=""),
        "pro": env.str("RATE_PLAN_PRO", default=""),
        "enterprise": env.str("RATE_PLAN_ENTERPRISE", default=""),
    },
    "work": env.str("RATE_WORK", default="60/1m"),
    "build_create": env.str("RATE_BUILD_CREATE", default="10/1m"),
    "analysis_create": env.str("RATE_ANALYSIS_CREATE", default="5/1m"),
    "task_create": env.str("RATE_TASK_CREATE", default="10/1h"),
    "webhook": env.str("RATE_WEBHOOK", default="1000/1h"),
}

# --- Where users' URLs may lead -----------------------------------------------------------------
OUTBOUND_ALLOWED = env.list("OUTBOUND_ALLOWED", default=[])
LOCAL_REPOSITORIES = env.list("LOCAL_REPOSITORIES", default=[])
BASES_KEEP_BYTES = env.int("BASES_KEEP_BYTES", default=2 * 1024**3)
SETUPS_KEEP_BYTES = env.int("SETUPS_KEEP_BYTES", default=2 * 1024**3)
REPOSITORY_MAX_BYTES = env.int("REPOSITORY_MAX_BYTES", default=1024**3)
GITHUB_URL = env.str("GITHUB_URL", default="https://github.com").rstrip("/")
GITHUB_API_URL = env.str("GITHUB_API_URL", default="https://api.github.com").rstrip("/")
GITHUB_CLIENT_ID = env.str("GITHUB_CLIENT_ID", default="")
GITHUB_CLIENT_SECRET = env.str("GITHUB_CLIENT_SECRET", default="")
GITHUB_WEBHOOK_SECRET = env.str("GITHUB_WEBHOOK_SECRET", default="")
GITHUB_TIMEOUT_SECONDS = env.int("GITHUB_TIMEOUT_SECONDS", default=15)

# --- Money (1 credit = US$0.01 of model price; a millionth of it is the unit inside) -----------
CREDIT_USD = env.str("CREDIT_USD", default="0.01")
SIGNUP_CREDITS = env.int("SIGNUP_CREDITS", default=100)
STRIPE_SECRET_KEY = env.str("STRIPE_SECRET_KEY", default="")

# --- AI providers -------------------------------------------------------------------------------
CLAUDE_API_KEY = env.str("CLAUDE_API_KEY", default="")
OPENAI_API_KEY = env.str("OPENAI_API_KEY", default="")
GEMINI_API_KEY = env.str("GEMINI_API_KEY", default="")
ANTHROPIC_BASE_URL = env.str("ANTHROPIC_BASE_URL", default="https://api.anthropic.com")
OPENAI_BASE_URL = env.str("OPENAI_BASE_URL", default="https://api.openai.com/v1")
GEMINI_BASE_URL = env.str(
    "GEMINI_BASE_URL", default="https://generativelanguage.googleapis.com/v1beta/openai/"
)
MODEL_TIMEOUT_SECONDS = env.int("MODEL_TIMEOUT_SECONDS", default=600)
MODEL_MAX_RETRIES = env.int("MODEL_MAX_RETRIES", default=5)

# --- The agent (agent-design 4: each figure's reason is in docs/architecture.md) ---------------
AGENT_CALLS = {
    "build": env.int("AGENT_CALLS_BUILD", default=75),
    "implement": env.int("AGENT_CALLS_IMPLEMENT", default=75),
    "debug": env.int("AGENT_CALLS_DEBUG", default=75),
    "documentation": env.int("AGENT_CALLS_DOCUMENTATION", default=40),
    "pr_review": env.int("AGENT_CALLS_PR_REVIEW", default=40),
    "analysis": env.int("AGENT_CALLS_ANALYSIS", default=40),
    "ask": env.int("AGENT_CALLS_ASK", default=25),
    "architect": env.int("AGENT_CALLS_ARCHITECT", default=25),
}
AGENT_EXTRA_CALLS = env.int("AGENT_EXTRA_CALLS", default=50)
AGENT_CAP_USD = env.str("AGENT_CAP_USD", default="2")
AGENT_WRAP_UP_SECONDS = env.int("AGENT_WRAP_UP_SECONDS", default=30 * 60)
AGENT_DEADLINE_SECONDS = env.int("AGENT_DEADLINE_SECONDS", default=45 * 60)
AGENT_COMMAND_SECONDS = env.int("AGENT_COMMAND_SECONDS", default=120)
AGENT_COMMAND_MAX_SECONDS = env.int("AGENT_COMMAND_MAX_SECONDS", default=600)
AGENT_OUTPUT_CHARACTERS = env.int("AGENT_OUTPUT_CHARACTERS", default=12_000)
AGENT_MALFORMED_REPLIES = env.int("AGENT_MALFORMED_REPLIES", default=3)
AGENT_REPAIR_STEPS = env.int("AGENT_REPAIR_STEPS", default=3)
AGENT_SAME_RESULTS = env.int("AGENT_SAME_RESULTS", default=4)
AGENT_SAME_FAILURES = env.int("AGENT_SAME_FAILURES", default=3)
AGENT_ALTERNATING_CALLS = env.int("AGENT_ALTERNATING_CALLS", default=6)
AGENT_STALE_CHANGES = env.int("AGENT_STALE_CHANGES", default=15)
AGENT_SUMMARY_SHARE = env.float("AGENT_SUMMARY_SHARE", default=0.7)
AGENT_LEAST_GAIN = env.float("AGENT_LEAST_GAIN", default=0.1)
PROMPT_MAX_CHARACTERS = env.int("PROMPT_MAX_CHARACTERS", default=32_000)
SETUP_SECONDS = env.float("SETUP_SECONDS", default=900)
CHECK_SECONDS = env.float("CHECK_SECONDS", default=600)

# --- Workers, leases, sweeper -------------------------------------------------------------------
WORKER_SLOTS = env.int("WORKER_SLOTS", default=4)
DISK_RESERVE_BYTES = env.int("DISK_RESERVE_BYTES", default=64 * 1024**2)
LEASE_SECONDS = env.int("LEASE_SECONDS", default=30)
LEASE_RENEW_SECONDS = env.float("LEASE_RENEW_SECONDS", default=10)
LEASE_MAX_LOST = env.int("LEASE_MAX_LOST", default=3)
SWEEP_SECONDS = env.float("SWEEP_SECONDS", default=10)
PARK_SECONDS = env.float("PARK_SECONDS", default=60)
PARKED_MOST_SECONDS = env.int("PARKED_MOST_SECONDS", default=24 * 3600)
STOP_SECONDS = env.float("STOP_SECONDS", default=25)
CANCEL_POLL_SECONDS = env.float("CANCEL_POLL_SECONDS", default=0.5)

# --- How many days logs are kept; 0: for ever ---------------------------------------------------
FEED_KEEP_DAYS = env.int("FEED_KEEP_DAYS", default=90)
KEY_USAGE_KEEP_DAYS = env.int("KEY_USAGE_KEEP_DAYS", default=365)
WEBHOOKS_KEEP_DAYS = env.int("WEBHOOKS_KEEP_DAYS", default=90)

# --- The sandbox --------------------------------------------------------------------------------
SANDBOX_PROCESSES = env.int("SANDBOX_PROCESSES", default=256)
SANDBOX_MEMORY_BYTES = env.int("SANDBOX_MEMORY_BYTES", default=2 * 1024**3)
SANDBOX_FILE_BYTES = env.int("SANDBOX_FILE_BYTES", default=256 * 1024**2)
SANDBOX_DISK_BYTES = env.int("SANDBOX_DISK_BYTES", default=1024**3)
SANDBOX_OUTPUT_BYTES = env.int("SANDBOX_OUTPUT_BYTES", default=64 * 1024**2)
SANDBOX_TMP_BYTES = env.int("SANDBOX_TMP_BYTES", default=256 * 1024**2)
SANDBOX_LOSSES = env.int("SANDBOX_LOSSES", default=3)
# What a run may move through the proxy to its repository's listed hosts; there is no other network.
SANDBOX_NETWORK_BYTES = env.int("SANDBOX_NETWORK_BYTES", default=2 * 1024**3)
SANDBOX_NETWORK_CONNECTIONS = env.int("SANDBOX_NETWORK_CONNECTIONS", default=64)
SANDBOX_NETWORK_SECONDS = env.float("SANDBOX_NETWORK_SECONDS", default=900)

# --- Checkpoints: what one step's changes may be; they come from a sandbox, so they are hostile --
CHECKPOINT_SECONDS = env.float("CHECKPOINT_SECONDS", default=120)
CHECKPOINT_BYTES = env.int("CHECKPOINT_BYTES", default=64 * 1024**2)
CHECKPOINT_UNPACKED_BYTES = env.int("CHECKPOINT_UNPACKED_BYTES", default=512 * 1024**2)
CHECKPOINT_OBJECT_BYTES = env.int("CHECKPOINT_OBJECT_BYTES", default=100 * 1024**2)
CHECKPOINT_OBJECTS = env.int("CHECKPOINT_OBJECTS", default=50_000)
CHECKPOINT_FILES = env.int("CHECKPOINT_FILES", default=20_000)
CHECKPOINT_DEPTH = env.int("CHECKPOINT_DEPTH", default=100)
CHECKPOINT_CPU_SECONDS = env.int("CHECKPOINT_CPU_SECONDS", default=60)
CHECKPOINT_MEMORY_BYTES = env.int("CHECKPOINT_MEMORY_BYTES", default=2 * 1024**3)
CHECKPOINT_REFUSALS = env.int("CHECKPOINT_REFUSALS", default=3)

# --- Ways up: names that lower layers may call by (house-style, section 3) ----------------------
UPCALLS: dict[str, str] = {
    "account_created": "billing.accounts.on_account_created",
    "credits_of": "billing.accounts.credits_of",
    "plan_limits": "billing.limits.of_plan",
    "repository_closed": "tasks.packs.forget_repository",
    "webhook_stored": "tasks.actors.ring_webhook",
    "pull_requests_due": "tasks.actors.ring_pull_requests",
    "queue_health": "tasks.heartbeat.check_queue",
    "figures": "tasks.metrics.figures",
    "metrics": "tasks.metrics.collect",
}

# --- Pages of others whose scripts may use the API: with a token, never with a cookie ------------
CORS_ALLOWED_ORIGINS = env.list("CORS_ALLOWED_ORIGINS", default=[])
CORS_URLS_REGEX = cors.URLS
CORS_ALLOW_HEADERS = cors.REQUEST_HEADERS
CORS_EXPOSE_HEADERS = cors.ANSWER_HEADERS

# --- Error reports and metrics ------------------------------------------------------------------
SENTRY_DSN = env.str("SENTRY_DSN", default="")
METRICS_TOKEN = env.str("METRICS_TOKEN", default="")
# prometheus_client reads it itself, from the environment; .env has been read into that above.
if env.str("PROMETHEUS_MULTIPROC_DIR", default=""):
    Path(env.str("PROMETHEUS_MULTIPROC_DIR")).mkdir(parents=True, exist_ok=True)

# --- Logs ---------------------------------------------------------------------------------------
LOG_LEVEL = env.str("LOG_LEVEL", default="INFO")
LOGGING = logs.settings(level=LOG_LEVEL, format_name=env.str("LOG_FORMAT", default="text"))
