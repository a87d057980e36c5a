// Pushes one gauge as programs in Node.js do: node push.js VERB URL JOB INSTANCE METRIC VALUE ENCODING
'use strict';

const client = require('prom-client');

const [verb, url, job, instance, metric, value, encoding] = process.argv.slice(2);
const registry = new client.Registry();
const options = encoding ? { headers: { 'Content-Encoding': encoding } } : {};
const gateway = new client.Pushgateway(url, options, registry);
if (verb !== 'delete') {
  new client.Gauge({ name: metric, help: 'Pushed.', registers: [registry] }).set(Number(value));
}
gateway[verb]({ jobName: job, groupings: { instance } }).catch((err) => {
  console.error(err.message);
  process.exitCode = 1;
});
