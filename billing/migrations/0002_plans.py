from django.db import migrations

# The request limits of Free and Pro are the public contract's; Enterprise agrees its own.
PLANS = (
    {
        "slug": "free",
        "name": "Free",
        "description": "To try it out.",
        "price_usd": "0",
        "monthly_credits": 0,
        "concurrent_tasks": 2,
        "requests_per_hour": 100,
        "tasks_per_hour": 10,
    },
    {
        "slug": "pro",
        "name": "Pro",
        "description": "For people who work with it every day.",
        "price_usd": "20",
        "monthly_credits": 2000,
        "concurrent_tasks": 5,
        "requests_per_hour": 1000,
        "tasks_per_hour": 100,
    },
    {
        "slug": "enterprise",
        "name": "Enterprise",
        "description": "For organisations.",
        "price_usd": "200",
        "monthly_credits": 25000,
        "concurrent_tasks": 20,
        "requests_per_hour": 10000,
        "tasks_per_hour": 1000,
    },
)


def add_plans(apps, schema_editor):
    model = apps.get_model("billing", "SubscriptionPlan")
    for plan in PLANS:
        values = {name: value for name, value in plan.items() if name != "slug"}
        model.objects.get_or_create(slug=plan["slug"], defaults=values)


class Migration(migrations.Migration):

    dependencies = [("billing", "0001_initial")]

    operations = [migrations.RunPython(add_plans, migrations.RunPython.noop)]
