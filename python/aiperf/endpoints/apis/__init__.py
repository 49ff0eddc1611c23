"""APIs, one file each; `ENDPOINT` is its object (protocol: `aiperf.endpoints.Endpoint`)."""
