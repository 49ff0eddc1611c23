"""A run inside a Kubernetes cluster, next to the model it measures, without a control plane of our own.

`manifest` turns options and a command line of `aiperf profile` into objects for `kubectl apply`; `kinds/` holds one file per
kind of workload (indexed Job, JobSet, RayJob); `node` is what runs in each pod; `kubectl` and `follow` apply, watch and collect.
"""
