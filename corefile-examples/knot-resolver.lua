-- Made by: mcsdns stub knot-resolver --ip 10.96.0.53
-- clusterset.local from mcsdns at 10.96.0.53, for Knot Resolver 5.
-- Where: a file that kresd.conf reads, before its other policies: the first that fits a name counts.
-- Apply:
--   mcsdns stub knot-resolver --ip 10.96.0.53 > /etc/knot-resolver/mcsdns.lua &&
--   sed -i -e '/mcsdns.lua/d' -e "1i dofile('/etc/knot-resolver/mcsdns.lua')" /etc/knot-resolver/kresd.conf &&
--   systemctl restart 'kresd@*'
-- Know:
-- - A clusterIP is reached from the nodes of the cluster only. From elsewhere give a load balancer's address.
-- - set_insecure takes the place of a list from before: if you have one, put the zone into it.
-- - The module `rebinding` takes private addresses out of all answers, and excepts no zone.
-- - Knot Resolver 6 is configured in YAML; there it is:
--     forward:
--       - subtree: clusterset.local
--         servers: ["10.96.0.53"]
--         options: {authoritative: true, dnssec: false}
local zones = policy.todnames({ 'clusterset.local', })
policy.add(policy.suffix(policy.STUB({ '10.96.0.53', }), zones))
-- STUB validates nothing. A FORWARD of yours that comes first would, and the zone is not signed.
trust_anchors.set_insecure({ 'clusterset.local', })
