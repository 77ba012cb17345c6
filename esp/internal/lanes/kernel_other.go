//go:build !amd64

package lanes

// No key of this architecture has a path that leads here.
const missing = "lanes: no kernel on this architecture"

func cbcEncrypt(Path, int, *cbcLanes, int)                          { panic(missing) }
func cbcDecrypt(Path, bool, *[32]uint32, *byte, *byte, int)         { panic(missing) }
func counter(Path, bool, *[32]uint32, *byte, *byte, *[16]byte, int) { panic(missing) }
func compress(Path, *sm3Lanes, int)                                 { panic(missing) }
func ghash(Path, *[16][16]byte, *[16]byte, *byte, int)              { panic(missing) }
