package esp

import "testing"

func TestTableIsFrozen(t *testing.T) {
	make := func(id ChildID, spi SPI) (*Outbound, *Inbound) {
		a, b := variants()[0].ends()
		a.ID, b.ID, b.In.SPI = id, id, spi
		out, err := NewOutbound(a, State{}, counterReader(0))
		if err != nil {
			t.Fatal(err)
		}
		in, err := NewInbound(b, State{})
		if err != nil {
			t.Fatal(err)
		}
		return out, in
	}
	out1, in1 := make(1, 0x1001)
	out2, in2 := make(2, 0x1002)
	_, in3 := make(3, 0x1001)

	var t0 *Table
	if t0.Inbound(0x1001) != nil || t0.Outbound("t") != nil {
		t.Fatal("the nil table is empty")
	}
	t1, err := t0.WithInbound(in1)
	if err != nil {
		t.Fatal(err)
	}
	t1 = t1.WithOutbound(out1)
	t2, err := t1.WithInbound(in2)
	if err != nil {
		t.Fatal(err)
	}
	t3 := t2.WithOutbound(out2)
	if t1.Inbound(0x1002) != nil || t2.Outbound("t") != out1 || t3.Outbound("t") != out2 || t3.Inbound(0x1001) != in1 {
		t.Fatal("a new table changed an old one")
	}
	if _, err := t3.WithInbound(in3); err == nil {
		t.Fatal("two children on one SPI")
	}
	if again, err := t3.WithInbound(in1); err != nil || again.Inbound(0x1001) != in1 {
		t.Fatal("a child may be set again")
	}
	t4 := t3.Without(1)
	if t4.Inbound(0x1001) != nil || t4.Outbound("t") != out2 || t4.Inbound(0x1002) != in2 || t3.Inbound(0x1001) != in1 {
		t.Fatal("removal of the old child")
	}
	if t5 := t4.Without(2); t5.Outbound("t") != nil || t5.Inbound(0x1002) != nil {
		t.Fatal("removal of the last child")
	}
}
