"""Settings that the properties of the pipeline share."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "pipeline",
    deadline=None,  # the machine may be busy with other things
    max_examples=80,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("pipeline")
