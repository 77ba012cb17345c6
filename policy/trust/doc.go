// Package trust decides whether a certificate pair belongs to a configured peer.
package trust
