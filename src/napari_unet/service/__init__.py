"""Policy and state: jobs, devices, models; knows neither Qt nor napari, loads torch with a job."""
