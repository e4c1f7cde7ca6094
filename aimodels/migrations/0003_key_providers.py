from django.db import migrations

PROVIDERS = (
    ("anthropic", "Anthropic", "https://console.anthropic.com/settings/keys"),
    ("openai", "OpenAI", "https://platform.openai.com/api-keys"),
    ("gemini", "Google Gemini", "https://aistudio.google.com/apikey"),
    ("custom", "OpenAI-compatible server", ""),
)


def add_providers(apps, schema_editor):
    model = apps.get_model("aimodels", "KeyProvider")
    for slug, name, key_url in PROVIDERS:
        model.objects.get_or_create(slug=slug, defaults={"name": name, "key_url": key_url})


class Migration(migrations.Migration):

    dependencies = [("aimodels", "0002_usage_and_key_providers")]

    operations = [migrations.RunPython(add_providers, migrations.RunPython.noop)]
