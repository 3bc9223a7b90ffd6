import os

from hypothesis import settings

# Examples take long at the first call of a network; on a build server they are the same each time.
settings.register_profile("default", settings(deadline=None))
settings.register_profile("ci", settings(deadline=None, derandomize=True, database=None))
settings.load_profile("ci" if os.environ.get("CI") else "default")
