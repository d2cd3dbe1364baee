package lab

// CaptureStats is what a capture saw.
type CaptureStats struct {
	Packets int // written
	Dropped int // lost because they came faster than they were written
}
