// The etcd inside this process: one member on loopback, whose data survives a kill.
package main

import (
	"fmt"
	"net"
	"net/url"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/storage/wal"
)

// startEtcd waits until etcd serves. Nothing is synced to disk: a killed process loses nothing by
// that, only a machine that loses power would.
func startEtcd(folder string, port int) (*embed.Etcd, error) {
	if port == 0 {
		free, err := net.Listen("tcp", "127.0.0.1:0") // etcd's HTTP gateway must be told a number
		if err != nil {
			return nil, err
		}
		port = free.Addr().(*net.TCPAddr).Port
		free.Close()
	}
	wal.SegmentSizeBytes = 4 << 20 // a data folder is copied in no time
	config := embed.NewConfig()
	config.Dir = folder
	config.LogLevel = "fatal"
	config.UnsafeNoFsync = true
	config.WatchProgressNotifyInterval = 5 * time.Second // as clusters set it: bookmarks are fresh by it
	config.TickMs, config.ElectionMs = 20, 200
	config.QuotaBackendBytes = 4 << 30
	client := url.URL{Scheme: "http", Host: fmt.Sprintf("127.0.0.1:%d", port)}
	peer := url.URL{Scheme: "http", Host: "127.0.0.1:0"}
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	etcd, err := embed.StartEtcd(config)
	if err != nil {
		return nil, err
	}
	select {
	case <-etcd.Server.ReadyNotify():
		return etcd, nil
	case err := <-etcd.Err():
		return nil, err
	case <-time.After(30 * time.Second):
		etcd.Close()
		return nil, fmt.Errorf("%s: no leader within 30 s; end what else uses this folder", folder)
	}
}

func clientURL(etcd *embed.Etcd) string {
	return "http://" + etcd.Clients[0].Addr().String()
}
