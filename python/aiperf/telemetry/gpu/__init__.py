"""The GPUs behind the server: power, energy, use and memory, from DCGM exporters or from NVML on this machine.

`watch_gpus(config)` reads beside the load; `devices.gpus_of` sorts what was read by GPU; `energy` sums up what they took,
`export` writes AIPerf's `telemetry_data` and `gpu_telemetry_export.jsonl`.
"""
