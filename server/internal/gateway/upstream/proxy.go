// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// ProxyProtocol is the version of the PROXY protocol that connections to a
// server begin with.
type ProxyProtocol uint8

// The versions.
const (
	NoProxy ProxyProtocol = iota
	ProxyV1
	ProxyV2
)

// proxyV2 begins every header of version 2.
const proxyV2 = "\r\n\r\n\x00\r\nQUIT\n"

// Header returns what a connection for a client begins with: where he is, and
// what he connected to. Without a client, as for the gateway's own questions, it
// says that the connection is the gateway's. NoProxy has none.
func (v ProxyProtocol) Header(from, to netip.AddrPort) string {
	if v == NoProxy {
		return ""
	}
	src, dst := from.Addr().Unmap().WithZone(""), to.Addr().Unmap().WithZone("")
	if src.IsValid() && !dst.IsValid() { // he came by something that has no address
		dst = netip.IPv6Unspecified()
		if src.Is4() {
			dst = netip.IPv4Unspecified()
		}
	}
	six := src.Is6() || dst.Is6()
	if v == ProxyV2 {
		return headerV2(src, dst, from.Port(), to.Port(), six)
	}
	if !src.IsValid() {
		return "PROXY UNKNOWN\r\n"
	}
	family, write := "TCP4", netip.Addr.String
	if six {
		family, write = "TCP6", sixth
	}
	return fmt.Sprintf("PROXY %s %s %s %d %d\r\n", family, write(src), write(dst), from.Port(), to.Port())
}

// sixth writes any address as one of IPv6: both of a header are of one family.
func sixth(a netip.Addr) string { return netip.AddrFrom16(a.As16()).String() }

func headerV2(src, dst netip.Addr, from, to uint16, six bool) string {
	if !src.IsValid() {
		return proxyV2 + "\x20\x00\x00\x00" // LOCAL
	}
	b := append([]byte(proxyV2), 0x21) // PROXY
	if six {
		b = append(b, 0x21, 0, 36) // TCP over IPv6
		s, d := src.As16(), dst.As16()
		b = append(append(b, s[:]...), d[:]...)
	} else {
		b = append(b, 0x11, 0, 12)
		s, d := src.As4(), dst.As4()
		b = append(append(b, s[:]...), d[:]...)
	}
	return string(binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(b, from), to))
}
