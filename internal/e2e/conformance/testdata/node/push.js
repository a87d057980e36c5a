// Pushes one gauge as programs in Node.js do: node push.js VERB URL JOB INSTANCE METRIC VALUE ENCODING TTL OPERATION
'use strict';

const client = require('prom-client');

const [verb, url, job, instance, metric, value, encoding, ttl, operation] = process.argv.slice(2);
const registry = new client.Registry();
const headers = {};
if (encoding) headers['Content-Encoding'] = encoding;
if (ttl) headers['Push-TTL'] = ttl;
if (operation) headers['Push-Operation'] = operation;
const gateway = new client.Pushgateway(url, { headers }, registry);
if (verb !== 'delete') {
  const own = { name: metric, help: 'Pushed.', registers: [registry] };
  if (operation) new client.Counter(own).inc(Number(value));
  else new client.Gauge(own).set(Number(value));
}
gateway[verb]({ jobName: job, groupings: { instance } }).catch((err) => {
  console.error(err.message);
  process.exitCode = 1;
});
