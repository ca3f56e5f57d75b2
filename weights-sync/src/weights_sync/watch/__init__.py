"""Following a source: what is new is placed, the predictor loads it, and what it does not serve is taken back.

`loop` decides when, `turn` what to do; `sighting` looks at the source, `predictor` talks to the server, `state` is what
outlives a restart. `follow` reads the URI from an object in Kubernetes, `events` writes on the pod, `probes` answers
the kubelet and Prometheus.
"""
