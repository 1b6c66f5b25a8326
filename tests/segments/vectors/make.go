// Writes the vectors that the ltx command cannot make. See README.md.
package main

import (
	"os"

	"github.com/superfly/ltx"
)

func page(pgno uint32, size int) []byte {
	data := make([]byte, size)
	for i := range data {
		data[i] = byte((int(pgno)*31 + i*i) % 251)
	}
	return data
}

func write(name string, header ltx.Header, pgnos []uint32, post ltx.Checksum) {
	file, err := os.Create(name)
	if err != nil {
		panic(err)
	}
	encoder, _ := ltx.NewEncoder(file)
	header.Version = ltx.Version
	if err := encoder.EncodeHeader(header); err != nil {
		panic(err)
	}
	for _, pgno := range pgnos {
		if err := encoder.EncodePage(ltx.PageHeader{Pgno: pgno}, page(pgno, int(header.PageSize))); err != nil {
			panic(err)
		}
	}
	encoder.SetPostApplyChecksum(post)
	if err := encoder.Close(); err != nil {
		panic(err)
	}
	if err := file.Close(); err != nil {
		panic(err)
	}
}

func main() {
	increment := ltx.Header{
		PageSize: 4096, Commit: 300000, MinTXID: 7, MaxTXID: 9, Timestamp: 1760000000123,
		PreApplyChecksum: ltx.ChecksumFlag | 0x1234, WALOffset: 32, WALSize: 4120, WALSalt1: 5, WALSalt2: 6,
		NodeID: 0xfeed,
	}
	write("increment.ltx", increment, []uint32{2, 128, 262144, 262146, 300000}, ltx.ChecksumFlag|0x5678)

	empty := ltx.Header{PageSize: 4096, MinTXID: 4, MaxTXID: 4, PreApplyChecksum: ltx.ChecksumFlag | 1}
	write("emptied.ltx", empty, nil, ltx.ChecksumFlag)

	unchecked := ltx.Header{Flags: ltx.HeaderFlagNoChecksum, PageSize: 4096, Commit: 3, MinTXID: 2, MaxTXID: 2}
	write("no-checksums.ltx", unchecked, []uint32{3}, 0)

	wide := ltx.Header{
		PageSize: 8192, Commit: 3, MinTXID: 2, MaxTXID: 2, PreApplyChecksum: ltx.ChecksumFlag | 1,
	}
	write("wide-pages.ltx", wide, []uint32{3}, ltx.ChecksumFlag|2)
}
