-- Made by: mcsdns stub dnsdist --ip 10.96.0.53
-- clusterset.local from mcsdns at 10.96.0.53, for dnsdist.
-- Where: a file that dnsdist.conf reads, before rules of yours that take all names.
-- Apply:
--   mcsdns stub dnsdist --ip 10.96.0.53 > /etc/dnsdist/mcsdns.lua &&
--   sed -i -e '/mcsdns.lua/d' -e '1i dofile("/etc/dnsdist/mcsdns.lua")' /etc/dnsdist/dnsdist.conf &&
--   dnsdist --check-config && systemctl restart dnsdist
-- Know:
-- - A clusterIP is reached from the nodes of the cluster only. From elsewhere give a load balancer's address.
-- - An mcsdns is asked while it has the zone, which the check finds out once a second.
-- - While none has it, dnsdist does not answer for the zone, and clients wait; with setServFailWhenNoServer(true)
--   it is SERVFAIL.
newServer({
    address = "10.96.0.53", pool = "mcsdns",
    checkName = "dns-version.clusterset.local.", checkType = "TXT", mustResolve = true,
})
addAction({ "clusterset.local.", }, PoolAction("mcsdns"))
