"""Which training a lane gets next, and what it may cost: values, without a cluster."""
