package xfrm

import (
	"errors"
	"fmt"
	"strings"

	"github.com/vishvananda/netlink"
)

// interfaceAlias marks the XFRM interfaces that we made.
const interfaceAlias = "made by yumen"

// ensureInterface finds an XFRM interface with that number, or makes it and takes it
// up, and returns its index. It outlives the process, as the routes into it do:
// RemoveGuard takes it away if we made it.
func (h *host) ensureInterface(name string, id uint32) (int, error) {
	l, err := h.route.LinkByName(name)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		l = &netlink.Xfrmi{LinkAttrs: netlink.LinkAttrs{Name: name}, Ifid: id}
		if err := h.route.LinkAdd(l); err != nil {
			return 0, fmt.Errorf("make interface %s: %w (CONFIG_XFRM_INTERFACE, module xfrm_interface)", name, err)
		}
		if l, err = h.route.LinkByName(name); err == nil {
			err = h.route.LinkSetAlias(l, interfaceAlias)
		}
	}
	if err != nil {
		return 0, fmt.Errorf("find interface %s: %w", name, err)
	}
	if x, ok := l.(*netlink.Xfrmi); !ok {
		return 0, fmt.Errorf("interface %s is of kind %s, not xfrm: choose another name", name, l.Type())
	} else if x.Ifid != id {
		return 0, fmt.Errorf("interface %s has if_id %d, not %d: change one of the two", name, x.Ifid, id)
	}
	if err := h.route.LinkSetUp(l); err != nil {
		return 0, fmt.Errorf("take interface %s up: %w", name, err)
	}
	return l.Attrs().Index, nil
}

// removeInterfaces removes those that we made.
func removeInterfaces() error {
	h, err := openHost()
	if err != nil {
		return err
	}
	defer h.close()
	links, err := h.route.LinkList()
	if err != nil {
		return fmt.Errorf("list interfaces: %w", err)
	}
	for _, l := range links {
		if _, ok := l.(*netlink.Xfrmi); ok && strings.HasPrefix(l.Attrs().Alias, interfaceAlias) {
			err = errors.Join(err, h.route.LinkDel(l))
		}
	}
	return err
}
