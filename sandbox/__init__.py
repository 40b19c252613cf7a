"""The integration environment: systemd hosts, a database and an AWS API on one machine.

`python3 -m sandbox up` brings it up, `python3 -m sandbox down` takes it away.
The modules, in the order in which a reader wants them:

topology      what hosts there are (pure)
network       which addresses they get (pure, but for reading what is taken)
runtime       podman, in a mount namespace of its own where the kernel needs one
image         the images of hosts and database
state         what a sandbox keeps on disk: keys, secrets, addresses
containers    from the topology to running containers
aws           the EC2 and Secrets Manager API, and what is registered there
cloudwatch    a stand-in for what moto lacks of CloudWatch: alarms that fire
engines       what runs in place of RDS, by engine
rds_metrics   a stand-in for what RDS tells CloudWatch, beside the database
certificates  the certificate authority and the certificate of the domain
endpoints     what is told to the outside: endpoints.json, env, known_hosts (pure)
lifecycle     up, down and status, made of the above
setup         packages, virtual environment and Node.js runtimes of the machine
tools         what only tests and benches need
"""
