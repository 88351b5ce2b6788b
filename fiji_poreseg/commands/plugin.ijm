// Written by `fiji-poreseg install`. Run that again after an update of fiji-poreseg, and when its
// Python environment has moved; it leaves this file alone once you have changed it.
// program: @PROGRAM@

var title = @TITLE@;
var python = @PYTHON@;
var folder = getDirectory("temp") + "fiji-poreseg-" + d2s(getTime(), 0) + "-" + round(1e6 * random);
// Not by the thread's name: Fiji runs a plugin in a thread of its own.
var fromMacro = startsWith(call("ij.IJ.macroRunning"), "true");
var inBatchMode = is("Batch Mode");
var current = 0;
var ticks = 0;

options = "" + call("ij.Macro.getOptions");
if (options == "fiji_poreseg_nothing ") exit;
if (options == "null") options = "";
if (fromMacro) {
	// Once a plugin has used run(), the macro that called it stops when the plugin is aborted, be
	// it by Esc or by stop(). Before, ImageJ would go on with that macro's next line.
	run(title, "fiji_poreseg_nothing");
} else
	options = ask();
setBatchMode(true); // so that images are selected without their windows coming to the front
if (nImages > 0) current = getImageID();
begin(options);
while (!File.exists(folder + "/answer.txt")) {
	wait(50);
	ticks++;
	if (ticks % 10 == 0) File.saveString("" + ticks, folder + "/alive.txt");
	if (File.exists(folder + "/wanted.txt")) handOver();
	if (File.exists(folder + "/progress.txt")) tell();
	if (ticks % 40 == 0) checkPython();
}
showAnswer();
clean();
if (!inBatchMode) setBatchMode("exit and display");

function begin(options) {
	File.makeDirectory(folder);
	if (!File.isDirectory(folder)) stop("The folder " + folder + " cannot be made. Free some space.");
	File.saveString("0", folder + "/alive.txt");
	request = "" + encode(title) + "\n" + encode(options) + "\n";
	request += "" + encode("" + call("java.lang.System.getProperty", "fiji_poreseg.model")) + "\n";
	request += "" + current + "\n";
	titles = getList("image.titles");
	for (i = 0; i < titles.length; i++) {
		id = call("ij.WindowManager.getNthImageID", "" + (i + 1));
		request += id + "\n" + encode(titles[i]) + "\n";
	}
	File.saveString(request, folder + "/request.txt");
	setOption("WaitForCompletion", false);
	said = "" + exec(python, "-P", "-m", "fiji_poreseg.remote", folder);
	if (said != "null")
		stop(python + " cannot be started.\nRun `fiji-poreseg install` again in the right environment.");
}

// Python asks for an image: save it, and change nothing of it.
function handOver() {
	id = parseInt(File.openAsString(folder + "/wanted.txt"));
	selectImage(id);
	changed = is("changes");
	saved = call("ij.Macro.saveAs", folder + "/" + id + ".tif");
	setOption("Changes", changed);
	selectImage(current);
	deleted = File.delete(folder + "/wanted.txt");
}

function tell() {
	news = split(File.openAsString(folder + "/progress.txt"), "\n");
	if (news.length < 3) return;
	showStatus("" + decode(news[0]) + ": " + news[1] + "/" + news[2]);
	showProgress(parseInt(news[1]), parseInt(news[2]));
}

function checkPython() {
	if (!File.exists(folder + "/pid.txt")) {
		if (ticks > 600)
			stop("Python did not begin within 30 s.\nRun `fiji-poreseg install` again in the right environment.");
		return;
	}
	pid = String.trim(File.openAsString(folder + "/pid.txt"));
	if (startsWith(getInfo("os.name"), "Windows"))
		found = exec("tasklist", "/FI", "PID eq " + pid, "/NH");
	else
		found = exec("sh", "-c", "kill -0 " + pid + " && echo " + pid);
	if (indexOf(found, pid) < 0 && !File.exists(folder + "/answer.txt"))
		stop("Python ended without an answer: it was killed, or ran out of memory.\n"
			+ "No file is left half-written. Close other programs, or take fewer slices with indices=...");
}

// The answer is a word per entry, and its values, each in a line.
function showAnswer() {
	answer = split(File.openAsString(folder + "/answer.txt"), "\n");
	hasRows = false;
	i = 0;
	while (i < answer.length) {
		if (answer[i] == "error") {
			stop("" + decode(answer[i + 1]));
		} else if (answer[i] == "line") {
			print("" + decode(answer[i + 1]));
			i += 2;
		} else if (answer[i] == "model") {
			old = call("java.lang.System.setProperty", "fiji_poreseg.model", "" + decode(answer[i + 1]));
			i += 2;
		} else if (answer[i] == "number" || answer[i] == "text") {
			if (!hasRows) Table.create("Results");
			hasRows = true;
			row = parseInt(answer[i + 1]);
			value = "" + decode(answer[i + 3]);
			if (answer[i] == "number") value = parseFloat(value);
			setResult("" + decode(answer[i + 2]), row, value);
			i += 4;
		} else if (answer[i] == "image") {
			showImage(folder + "/" + answer[i + 1], "" + decode(answer[i + 2]), "" + decode(answer[i + 3]));
			i += 4;
		} else if (answer[i] == "box") {
			box = split("" + decode(answer[i + 3]), ",");
			addBox(answer[i + 1], answer[i + 2], box, "" + decode(answer[i + 4]));
			i += 5;
		}
	}
	if (hasRows) updateResults();
}

// A region to look at: the first one of an answer takes the place of those of an earlier answer.
function addBox(image, number, box, name) {
	selectImage(parseInt(image));
	shown = getSliceNumber();
	selected = selectionType() >= 0;
	if (selected) Roi.copy;
	if (parseInt(number) == 0) {
		for (k = Overlay.size - 1; k >= 0; k--) {
			Overlay.activateSelection(k);
			if (startsWith(Roi.getName, "@LOOK@")) Overlay.removeSelection(k);
		}
	}
	makeRectangle(parseInt(box[1]), parseInt(box[2]), parseInt(box[3]), parseInt(box[4]));
	Roi.setName(name);
	Roi.setStrokeColor("yellow");
	Stack.getDimensions(width, height, channels, slices, frames);
	if (Stack.isHyperstack) Roi.setPosition(0, parseInt(box[0]) + 1, 0);
	else Roi.setPosition(parseInt(box[0]) + 1);
	Overlay.addSelection;
	run("Select None");
	setSlice(shown);
	if (selected) Roi.paste;
}

// The newest result has the plain title, so that a macro can count on it.
function showImage(file, name, classes) {
	titles = getList("image.titles");
	for (k = 0; k < titles.length; k++) {
		if (titles[k] == name) {
			selectImage(k + 1);
			rename(call("ij.WindowManager.getUniqueName", name));
		}
	}
	open(file);
	rename(name);
	if (classes != "") Property.set("poreseg_classes", classes);
}

// One message; then the macro that called stops at its line.
function stop(message) {
	clean();
	showProgress(1, 1);
	showMessage(title, message);
	if (fromMacro) {
		// It throws, which ImageJ shows in a window.
		call("ij.Macro.abort");
		close("Exception");
	}
	exit;
}

function clean() {
	names = getFileList(folder);
	for (k = 0; k < names.length; k++) deleted = File.delete(folder + "/" + names[k]);
	deleted = File.delete(folder);
}

function encode(text) {
	return call("java.net.URLEncoder.encode", text, "UTF-8");
}

function decode(text) {
	return call("java.net.URLDecoder.decode", text, "UTF-8");
}

function ask() {
	options = "";
	Dialog.create(title);
@DIALOG@	return options;
}

function option(name, value, otherwise) {
	// Not ==, for which upper and lower case are the same.
	if (lengthOf("" + value) == lengthOf("" + otherwise) && startsWith("" + value, "" + otherwise)) return "";
	return name + "=[" + value + "] ";
}

function flag(checked) {
	if (checked) return "true";
	return "false";
}
